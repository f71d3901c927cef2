#!/bin/bash
#BSUB -W 90/fasthost
#BSUB -We 60
#BSUB -b 12:24:20:00
#BSUB -t 2030:1:31:23:59
#BSUB -wa USR1 -wt 10
#BSUB -o o
./run
