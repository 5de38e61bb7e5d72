# Names for the scripts; each does its own set-up and is the place to read.
SCRIPTS := demo test soak attack bench lint format types lock

.PHONY: all $(SCRIPTS)
all: lint types test

$(SCRIPTS):
	scripts/$@
