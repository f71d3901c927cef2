#!/bin/bash
#BSUB -M 4096MB!
#BSUB -v 8GB!
#BSUB -hl
#BSUB -o o
./x
