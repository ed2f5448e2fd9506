"""Networks by name, their pretrained weights, and checks of both."""
