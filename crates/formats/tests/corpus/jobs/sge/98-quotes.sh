#!/bin/bash
#$ -N 'a b'
#$ -v "TITLE=two words",EMPTY=
#$ -l "h_rt=0:5:0,h_vmem=1G"
echo "$TITLE"
