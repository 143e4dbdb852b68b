"""Token storage in SQL databases: the tables, what the dialects have in common, and a module or more for each."""
