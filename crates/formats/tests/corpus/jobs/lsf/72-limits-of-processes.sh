#!/bin/sh
#BSUB -D 2G
#BSUB -S 64M
#BSUB -F 500M -C 100
#BSUB -p 12 -T 48
#BSUB -c 10:00/reference
#BSUB -ul
#BSUB -o o
./x
