#!/bin/bash
#$ -l h=node[0-9]*
#$ -q !(long.q)
#$ -l h=a|b&!c
#$ -l slots=4
#$ -q all.q@cn-[1-4]
./job
