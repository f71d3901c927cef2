#!/bin/bash
#BSUB -q "short  medium	long"
#BSUB -W 90
#BSUB -o o
./x
