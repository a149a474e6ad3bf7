"""One folder per board: target.toml and what start-up code it needs. Packaged as data."""
