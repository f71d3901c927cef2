#!/bin/bash
#BSUB -m "hosta@east hostb@west+2"
#BSUB -clusters "east+1 west others"
#BSUB -o o
./x
