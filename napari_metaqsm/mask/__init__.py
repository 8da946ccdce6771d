"""Where the susceptibility is wanted. One file a method; they are found by being here."""
