#!/bin/bash
##$ -N doubled
# $ -V
#  $ -r y
#$# -j y
#$N wrong
#$ -N right
#$-l h_rt=60
echo '#$ -N quoted'
#$
