#!/bin/sh
#$ -N first
echo one
#$ -l h_rt=60
