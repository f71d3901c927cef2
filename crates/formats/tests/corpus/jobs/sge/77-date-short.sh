#!/bin/bash
#$ -a 12241800
#$ -N eve
./backup
