"""BIDS: scans found in a dataset, and maps written as a dataset of derivatives."""
