"""The page, the tables and the terminal output that show a verdict."""
