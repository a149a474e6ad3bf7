"""Ops, one file each: shapes, NumPy semantics, gradient rule, lowering."""
