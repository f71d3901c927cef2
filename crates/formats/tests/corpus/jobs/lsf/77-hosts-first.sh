#!/bin/bash
#BSUB -m "login7! node[01-04]"
#BSUB -n 8
#BSUB -o o
./x
