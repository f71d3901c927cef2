#!/bin/sh
#BSUB -J "sweep[1-100:2,200]%5"
#BSUB -o out.%I
./sweep
