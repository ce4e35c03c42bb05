HANGS_S = 600.0
"""No process takes so long: what does, on a machine however slow and busy, hangs."""
