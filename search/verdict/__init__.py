"""Which strategy wins at each size, and how sure that is: numbers only."""
