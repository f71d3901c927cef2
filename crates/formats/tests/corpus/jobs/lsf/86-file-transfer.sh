#!/bin/bash
#BSUB -f "/home/me/in.dat > in.dat"
#BSUB -f "out.dat << out.dat" -f "log"
#BSUB -data "host1:/proj/std/data1"
#BSUB -datachk
#BSUB -stage storage=5:in=/a
#BSUB -o o
./x in.dat
