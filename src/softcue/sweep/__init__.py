"""Many runs from one command: which there are, which are left, running them, and what came of it."""
