"""Inspecting a prompt: the words its virtual tokens are near, how far they moved, what attends to them."""
