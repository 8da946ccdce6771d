"""Phase to total field. One file a method; they are found by being here."""
