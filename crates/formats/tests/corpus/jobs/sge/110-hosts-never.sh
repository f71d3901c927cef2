#!/bin/bash
#$ -cwd
#$ -q all.q@!(sick1|sick2)
#$ -l h=!old3
#$ -l h_rt=0:30:0
./job
