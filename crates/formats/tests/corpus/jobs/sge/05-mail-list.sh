#!/bin/csh
#Force csh if not the default
#$ -M someone@example.org,other@example.org
#$ -m b,e
#$ -o flow.out -j y
cd TEST
./flow
