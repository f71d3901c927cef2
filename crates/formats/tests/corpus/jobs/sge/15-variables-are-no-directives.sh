#!/bin/bash
#$HOME/bin/old
#$(date)
#$ -cwd
##$ -j y
# $ -V
echo
