"""Many runs from one command: the jobs, running those that are not complete, and their results."""
