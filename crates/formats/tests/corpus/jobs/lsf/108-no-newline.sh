#!/bin/bash
./x
#BSUB -o o
#BSUB -n 3