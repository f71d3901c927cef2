#!/bin/bash
#BSUB -n 4
#BSUB -o o
./x
