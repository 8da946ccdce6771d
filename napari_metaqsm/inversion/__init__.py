"""Local field to susceptibility. One file a method; they are found by being here."""
