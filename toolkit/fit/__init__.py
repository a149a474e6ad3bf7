"""The search for what fits a budget: update schemes and codecs, measured on the user's own data."""
