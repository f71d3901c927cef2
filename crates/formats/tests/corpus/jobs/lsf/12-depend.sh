#!/bin/bash
#BSUB -J merge
#BSUB -w 'done(1234) && ended("prep*")'
#BSUB -o o
./merge
