"""Looking back at runs: which there were, what each made, what a version came from, what may be removed."""
