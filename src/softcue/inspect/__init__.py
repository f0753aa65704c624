"""Reading a prompt: what its virtual tokens are near, how far they moved, and who attends to them."""
