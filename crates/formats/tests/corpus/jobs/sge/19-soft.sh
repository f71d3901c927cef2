#!/bin/bash
#$ -soft -l arch=lx-amd64
#$ -hard -l os=linux,scratch
./run
