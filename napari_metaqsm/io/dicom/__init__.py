"""DICOM from the scanner, and back to PACS."""
