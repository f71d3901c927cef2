#!/bin/bash
#BSUB -env "all, ~DISPLAY"
#BSUB -o o
./x
