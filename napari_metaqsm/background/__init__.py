"""Total field to local field. One file a method; they are found by being here."""
