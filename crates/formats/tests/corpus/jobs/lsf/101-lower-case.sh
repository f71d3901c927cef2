#!/bin/bash
#bsub -n 16
#Bsub -W 10:00
# BSUB -q long
#BSUBS -x
#BSUB -o o
./x
