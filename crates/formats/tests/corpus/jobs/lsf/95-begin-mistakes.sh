#!/bin/bash
#BSUB -b now+1hour
#BSUB -b 24:00
#BSUB -b 13:1:10:00
#BSUB -t 30
#BSUB -t 2030-01-31T12:00
#BSUB -o o
./x
