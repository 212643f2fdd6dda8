"""Other people's engines beside ours: the same weights, prompts and cores, in one run."""
