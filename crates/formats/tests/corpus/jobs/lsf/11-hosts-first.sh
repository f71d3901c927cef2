#!/bin/bash
#BSUB -m "host1! host[2-4]+2 others"
#BSUB -o o
./run
