# PYTHON=... picks another interpreter. Nothing here installs anything: see README.md.
PYTHON ?= python

.PHONY: help lint types test demo strip example

help:  ## this list
	@sed -n 's/^\([a-z][a-z./0-9]*\):.*##/\1:/p' $(MAKEFILE_LIST)

lint:  ## style and common mistakes
	$(PYTHON) -m ruff check .

types:  ## static types
	$(PYTHON) -m mypy

test:  ## all tests
	$(PYTHON) -m pytest

demo: examples/street.mp4  ## the main job on the example clip, into runs/demo/
	mkdir -p runs/demo
	$(PYTHON) -m vidtrans upsample examples/street.mp4 --factor 8 --to segmentation -y \
		-o runs/demo/street.x8.mp4 --out-to runs/demo/street.x8.segmentation.mp4

# The first gap of the example: its two keyframes, and every other in-between; the translation below. Needs ffmpeg.
strip: demo  ## docs/strip.png, from the demo
	ffmpeg -v error -y -i runs/demo/street.x8.mp4 -i runs/demo/street.x8.segmentation.mp4 -filter_complex \
		"[0:v]select='lte(n,8)*not(mod(n,2))',scale=208:-2,tile=5x1[up]; \
		 [1:v]select='lte(n,8)*not(mod(n,2))',scale=208:-2:flags=neighbor,tile=5x1[to]; [up][to]vstack" \
		-frames:v 1 docs/strip.png

example: examples/street.mp4  ## the example clip, where it is missing; `make -B example` renders it anew

examples/street.mp4:
	mkdir -p examples
	$(PYTHON) -m vidtrans render --seed 7 --seconds 2 --fps 7.5 --size 512x256 --domain scene --sound -o $@ -y
