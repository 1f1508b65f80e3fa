"""What the stages of Herbariograph are made of; each script in the folder above is a front door to it."""
