#!/bin/bash
#$ -now no -sync no -shell yes -b no
#$ -display :0.0
#$ -pty n
./run
