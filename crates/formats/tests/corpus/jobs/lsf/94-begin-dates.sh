#!/bin/bash
#BSUB -b 22:30
#BSUB -t 2031:2:28:6:00
#BSUB -H
#BSUB -o o
./x
