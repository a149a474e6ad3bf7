"""What people read of a model: memory accounts, tables, plots."""
