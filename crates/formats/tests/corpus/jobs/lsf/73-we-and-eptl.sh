#!/bin/bash
#BSUB -W 1:30/fast_model
#BSUB -We +45
#BSUB -eptl 12:00
#BSUB -o o
./x
