"""The command `answer-first`: everything a person does with this repository, behind one name."""
