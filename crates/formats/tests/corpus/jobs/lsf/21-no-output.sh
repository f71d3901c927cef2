#!/bin/bash
#BSUB -J mailed
#BSUB -W 10
./run
