"""What is learned: data by name, models by name, nested subsets, and the source task."""
