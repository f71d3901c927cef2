#!/bin/bash
#BSUB -Q "99 EXCLUDE(77) ~1"
#BSUB -k "/ckpt/me init=30 60 method=app"
#BSUB -mig 15
#BSUB -Zs
#BSUB -r
#BSUB -o o
[ -e state ] && ./x --restart state || ./x
