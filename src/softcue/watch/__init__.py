"""A sweep as it stands, read from its folder by a process that has no part in it. Needs no torch."""
