#!/bin/bash
#BSUB -w 'done(100) && (ended("prep*") || exit(102, >=2)) && !started(103)'
#BSUB -ti
#BSUB -b 5:18:30
#BSUB -t 6:12:00
#BSUB -sp 60
./merge
